"""Run the command line: `python -m rocbench`."""

from rocbench.cli import main

if __name__ == "__main__":
    main()
