"""The report of one iteration: a page of HTML. page.py puts it together, each other file is a part of it."""
