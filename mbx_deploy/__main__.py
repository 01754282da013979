"""python -m mbx_deploy."""

from mbx_deploy.commands.cli import main

main()
