"""What an administrator uses: setting up, checking, watching."""
