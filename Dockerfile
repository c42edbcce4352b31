# `deepcomp serve` on the library in /library:
#   docker build -t deepcomp .
#   docker run -p 8347:8347 -e DEEPCOMP_TOKEN -v "$PWD/LIBRARY:/library" deepcomp
FROM python:3.13-slim

WORKDIR /deepcomp
COPY setup.py pyproject.toml README.md constraints.txt LICENSE ./
COPY deepcomp_tf deepcomp_tf
COPY experiments experiments
COPY flags flags
RUN pip install --no-cache-dir -c constraints.txt '.[serve,formats]'

RUN useradd --create-home deepcomp && mkdir /library && chown deepcomp /library
USER deepcomp
VOLUME /library
EXPOSE 8347
# Its own process, so that SIGTERM reaches it, and it finishes what it has begun.
ENTRYPOINT ["deepcomp", "serve", "/library", "--host=0.0.0.0"]
