"""Another name of `deepcomp_tf.tasks`, which it had until version 0.2. The weights of shipped networks lie here."""

from deepcomp_tf.tasks.classify import Classifier
from deepcomp_tf.tasks.segment import Segmenter

__all__ = ["Classifier", "Segmenter"]
