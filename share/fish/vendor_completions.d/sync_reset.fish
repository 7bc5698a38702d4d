# Completions of sync_reset for fish.
complete -c sync_reset -s h -l help -d 'show this help message and exit'
complete -c sync_reset -s C -r -F -d 'imapd.conf to read'
complete -c sync_reset -l version -d 'print the version and end'
complete -c sync_reset -s v -d 'name each user that was removed'
complete -c sync_reset -s f -d 'obligatory: yes, remove them'
complete -c sync_reset -s L -d 'local only (as it is anyway)'
