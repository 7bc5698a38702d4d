"""SASL for csync, both ends: PLAIN, LOGIN, SCRAM-SHA-256, SCRAM-SHA-1, EXTERNAL. No security layers."""
