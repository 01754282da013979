"""python -m mbx_deploy."""

from mbx_deploy.cli import main

main()
