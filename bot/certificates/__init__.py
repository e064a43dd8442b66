"""Certificates: PFX files in and out, what a certificate says, and the TLS handshake that sees what is served."""
