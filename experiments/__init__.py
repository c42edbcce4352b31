"""Programs, one per experiment of the paper."""

from deepcomp_tf import quiet

quiet.heed_interrupts()
quiet.import_tensorflow()
