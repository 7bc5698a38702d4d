# Completions of sync_server for fish.
complete -c sync_server -s h -l help -d 'show this help message and exit'
complete -c sync_server -s C -r -F -d 'imapd.conf to read'
complete -c sync_server -s p -x -d 'strength in bits of a protection from outside (ssh, stunnel): 1 = integrity, more = privacy'
complete -c sync_server -s f -d 'accepted and without effect, as in Cyrus'
complete -c sync_server -s v -d 'log every command'
complete -c sync_server -s e -d 'log to stderr, not to syslog (so on a terminal anyway)'
complete -c sync_server -l version -d 'print the version and end'
