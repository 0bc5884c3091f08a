"""To and from a hospital's PACS: rules, DICOMweb, C-STORE, and the ledger of what was done."""
