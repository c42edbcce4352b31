"""`python -m deepcomp_tf.cli` is `deepcomp`."""

from deepcomp_tf import cli

if __name__ == "__main__":
  cli.main()
