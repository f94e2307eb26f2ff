"""`python -m kdxai COMMAND`, as `kdxai COMMAND`."""

from kdxai import cli

cli.main()
