"""Delivery by LMTP."""
