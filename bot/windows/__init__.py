"""Remote hands: the WinRM transport, the scripts that run on hosts, and what their answers mean."""
