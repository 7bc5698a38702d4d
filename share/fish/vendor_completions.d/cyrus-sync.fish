# Completions of cyrus-sync for fish.
complete -c cyrus-sync -f
complete -c cyrus-sync -n __fish_use_subcommand -a imap -d 'the lifeboat: let users read a store\'s mail over IMAP while their server is gone'
complete -c cyrus-sync -n '__fish_seen_subcommand_from imap' -s h -l help -d 'show this help message and exit'
complete -c cyrus-sync -n '__fish_seen_subcommand_from imap' -s v -d 'log more'
complete -c cyrus-sync -n '__fish_seen_subcommand_from imap' -s e -d 'log to stderr, not to syslog (so on a terminal anyway)'
complete -c cyrus-sync -n __fish_use_subcommand -a web -d 'a page that shows how replication fares on this host, and what to type'
complete -c cyrus-sync -n '__fish_seen_subcommand_from web' -s h -l help -d 'show this help message and exit'
complete -c cyrus-sync -n '__fish_seen_subcommand_from web' -l listen -x -d 'instead of sync_web_listen: a port of the loopback interface, host:port, or a UNIX socket'
complete -c cyrus-sync -n '__fish_seen_subcommand_from web' -s v -d 'log more'
complete -c cyrus-sync -n '__fish_seen_subcommand_from web' -s e -d 'log to stderr, not to syslog (so on a terminal anyway)'
complete -c cyrus-sync -s h -l help -d 'show this help message and exit'
complete -c cyrus-sync -s C -r -F -d 'imapd.conf to read'
complete -c cyrus-sync -l version -d 'print the version and end'
