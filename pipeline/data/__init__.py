"""Stage transform: datasets, MONAI transforms and the working grid."""
