"""A page that shows how replication fares on this host, and what to type where something is wrong.

It only reads what programs leave in files. So it may be stopped and started at any time, and nothing waits
for it. The browser needs no script; with one the page follows by itself.
"""
