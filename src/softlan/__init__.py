"""softlan: a LAN party over QUIC. Friends far away join a real LAN as if plugged into its switch."""

__version__ = "0.1.0"
