"""Valid but odd CT series whose volume is known: files from bytes, without the code under test.

`case.py` draws what is odd (hypothesis), `build.py` makes the files and the volume that a reader
must find in them. Values are written by `encoding.py` and not by pydicom, whose writer would make
them regular.
"""
