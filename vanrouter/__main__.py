"""`python -m vanrouter` is the daemon's program."""

from vanrouter.cli.vanrouter import main

if __name__ == "__main__":
    raise SystemExit(main())
