"""Vectors of a compressed set, straight from its bitstreams, by Apache Beam: on this machine, or on a cluster.

  python -m experiments.embed_dataset --dataset=compressed_photos/mine --data_dir=SETS --classifier=graft_bpp0.330 \\
      --output_dir=VECTORS

The set is one of `experiments.compress_dataset` or `experiments.compress_photos`. VECTORS/SPLIT-00000-of-00008.parquet and so on
hold a row a file: its name or its label, whichever the set has, and `vector`, float32, of length 1. Files that are damaged are
left out, counted and logged.
"""

import os

from absl import flags
import pyarrow as pa
import tensorflow_datasets as tfds

import deepcomp_tf as dc
from deepcomp_tf import files
from deepcomp_tf.data import sources
from deepcomp_tf.tasks import embed
from deepcomp_tf.training import flags as training_flags

FLAGS = flags.FLAGS
flags.DEFINE_string("dataset", None, "TFDS set of compressed files.", required=True)
flags.DEFINE_string("data_dir", None, "Where TFDS keeps it.")
flags.DEFINE_string("split", "train", "Its split, or a slice of it.")
flags.DEFINE_string("classifier", None, f"Whose features before the last layer: {', '.join(dc.Embedder.names())}, or a folder "
                    "that training wrote.", required=True)
flags.DEFINE_string("operating_point", None, "Folder of its operating point, where that is not where it says.")
flags.DEFINE_string("output_dir", None, "Folder for the Parquet files.", required=True)
training_flags.define_beam_flags()

# Files that go through the network together.
BATCH = 64
_SHARDS = "-?????-of-?????.parquet"


def main(argv):
  del argv
  beam = tfds.core.lazy_imports.apache_beam
  builder = sources.prepared_builder(FLAGS.dataset, FLAGS.data_dir)
  if sources.BITSTREAM not in builder.info.features:
    raise dc.DeepcompError(f"expected a set with the feature {sources.BITSTREAM}. Received: {FLAGS.dataset} with "
                           f"{', '.join(builder.info.features)}")
  plain, _, count = sources.slice_of(builder.info.splits, FLAGS.split)
  embedder = dc.Embedder.load(FLAGS.classifier, FLAGS.operating_point and dc.Codec.load(FLAGS.operating_point))
  expected, found = embedder.codec.fingerprint.hex(), (builder.info.metadata or {}).get("fingerprint")
  if found not in (None, expected):
    raise dc.DeepcompError(f"expected a set of the operating point {expected}. Received: {FLAGS.dataset}, of {found}")
  prefix = os.path.join(FLAGS.output_dir, plain)
  if files.glob(prefix + _SHARDS):
    raise dc.DeepcompError(f"expected a folder without vectors of {plain}. Received: {FLAGS.output_dir}")
  schema = pa.schema([*((name, kind) for name, kind in (("name", pa.string()), ("label", pa.int64()))
                        if name in builder.info.features), ("vector", embed.vector_type(embedder.size))])

  pipeline = beam.Pipeline(runner=FLAGS.beam_runner, options=training_flags.beam_options())
  _ = (pipeline | tfds.beam.ReadFromTFDS(builder, split=FLAGS.split) | beam.Map(tfds.as_numpy)
       | beam.BatchElements(min_batch_size=BATCH, max_batch_size=BATCH)
       | beam.FlatMap(embed.rows, embedder, schema.names[:-1])
       | beam.io.WriteToParquet(prefix, schema, file_name_suffix=".parquet"))
  result = pipeline.run()
  result.wait_until_finish()
  counters = result.metrics().query(beam.metrics.MetricsFilter().with_name(embed.DAMAGED))["counters"]
  damaged = sum(counter.result for counter in counters)
  print(f"{FLAGS.output_dir}: {count - damaged} vectors of {embedder.size} values"
        + (f"; {damaged} files are damaged and left out" if damaged else ""))


if __name__ == "__main__":
  training_flags.main(main)
