"""To and from a hospital's PACS: which series, what becomes of each, and where results go.

Rooms, in the order in which a series passes them; import-linter holds what may import what:

settings  what the hospital's YAML says: sources, rules, destinations, and who is notified
incoming  how series come: asked for at the source (query), or received by C-STORE (receiver)
work      the ledger of what is due, and the work folder that the files lie in
steps     what is done to each: retrieve, derive, send (worker, sending), and delete (retention)
peers     the other end: DICOMweb, DIMSE, or a folder of studies; storage commitment
messages  what else leaves this computer: audit messages (ATNA), mail and webhooks
"""
