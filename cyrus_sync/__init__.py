"""The installed package. Its rooms are the folders beside this one; each has a link here, so that Python, mypy and
pytest find them under this one name in a checkout as in an installation.
"""
