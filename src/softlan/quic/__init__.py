"""QUIC: one endpoint driver over qh3's sans-IO connections, the UDP socket under it, and certificates."""
