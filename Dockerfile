# launchq: worker, simulated cloud and command line in one image. Redis runs as a service of its own.
#
#   docker build -t launchq .                                   # or with --build-arg PYTHON_VERSION=3.13
#   docker run --rm launchq --help
#
# The image holds no secrets: they come as files at run time (see docker-compose.yml).
ARG PYTHON_VERSION=3.12

FROM python:${PYTHON_VERSION}-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
# Without pip in it: nothing is installed at run time.
RUN python -m venv --without-pip /opt/launchq
# What launchq needs comes first, so that a change of our code does not install it again.
COPY pyproject.toml constraints.txt ./
RUN python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; extras = \
      project['optional-dependencies']; print(*project['dependencies'], *extras['board'], *extras['otel'], sep='\n')" \
      > requirements.txt \
    && python -m pip --python /opt/launchq/bin/python install -c constraints.txt -r requirements.txt
COPY README.md ./
COPY config/ config/
COPY tasks/ tasks/
COPY ledger/ ledger/
COPY worker/ worker/
COPY launchq/ launchq/
COPY sandbox/ sandbox/
RUN python -m pip --python /opt/launchq/bin/python install -c constraints.txt '.[board,otel]'

FROM python:${PYTHON_VERSION}-slim
RUN groupadd --gid 10001 launchq \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin launchq
COPY --from=build /opt/launchq /opt/launchq
ENV PATH=/opt/launchq/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
# Files to submit can be mounted here. Nothing is written here, nor anywhere else but /tmp.
WORKDIR /work
# A number, so that an orchestrator can see that it is not root.
USER 10001:10001
STOPSIGNAL SIGTERM
# As a list: SIGTERM then reaches launchq, not a shell around it.
ENTRYPOINT ["launchq"]
CMD ["worker"]
