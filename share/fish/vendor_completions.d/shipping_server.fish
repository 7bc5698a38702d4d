# Completions of shipping_server for fish.
complete -c shipping_server -o sclass -x -d 'only orders of this storage class'
complete -c shipping_server -o poll -d 'the orders in the storage bays and return bays'
complete -c shipping_server -o receiver -d 'run in the foreground and receive what other hosts send'
complete -c shipping_server -o makekey -d 'make the family key; copy the file to the other hosts'
complete -c shipping_server -s C -r -F -d 'imapd.conf to read (/etc/imapd.conf)'
complete -c shipping_server -o help -d 'this text'
complete -c shipping_server -o version -d 'print the version and end'
