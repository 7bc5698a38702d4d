"""Replication without a line between the sites: each site writes what another lacks into a packet.

`capture` records what the mail store has and the operations log (`oplog`) does not tell yet; `export` writes
operations into a packet (`packet`); `importing` reads one and carries its operations out (`replay`). A packet
travels by hand, or by the orders and bays of `shipping`. `commands` are what administrators type:
syncreplica(8) and multitool(8).
"""
