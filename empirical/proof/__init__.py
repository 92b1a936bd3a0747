"""Every formula against every witness."""
