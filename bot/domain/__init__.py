"""What octocert knows and decides, without any I/O."""
