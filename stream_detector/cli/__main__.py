"""`python -m stream_detector.cli` is the command `stream-detector`."""

from stream_detector.cli import main

if __name__ == "__main__":
    main()
