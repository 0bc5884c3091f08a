"""The other end: a DICOMweb service, an application entity, or a folder of studies."""
