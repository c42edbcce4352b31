"""Programs, one per experiment of the paper."""

from deepcomp_tf import quiet

quiet.import_tensorflow()
