"""python -m mbx_deploy, and the program mbx-deploy: Ctrl-C counts from the first import on."""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from mbx_deploy.commands.cli import main as run

        run()
    except KeyboardInterrupt:
        print("\nerror: interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
