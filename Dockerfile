# Three images: serve (no torch), export (torch for CPUs) and loadtest (locust alone).
#
#   docker build --target serve -t cloze-serve .
#
# What rarely changes comes first: a change of code rebuilds the last layer of an image only.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm


FROM ${PYTHON_IMAGE} AS python
ENV PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore


# The lists of dependencies, apart from the rest of pyproject.toml and from the code.
FROM python AS locked
WORKDIR /build
COPY pyproject.toml constraints.txt ./
RUN python -c 'import pathlib, tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
[pathlib.Path(name + ".txt").write_text("\n".join(lines)) for name, lines in \
{"serve": project["dependencies"], **project["optional-dependencies"]}.items()]' \
    && python -m venv --without-pip /opt/cloze


FROM locked AS serve-packages
RUN pip --python /opt/cloze/bin/python install --constraint constraints.txt --requirement serve.txt


FROM locked AS export-packages
# Where torch comes from: the index that has it for CPUs alone, without gigabytes of CUDA.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip --python /opt/cloze/bin/python install --constraint constraints.txt \
    ${TORCH_INDEX:+--extra-index-url "${TORCH_INDEX}"} --requirement serve.txt --requirement export.txt


FROM locked AS loadtest-packages
RUN pip --python /opt/cloze/bin/python install --constraint constraints.txt --requirement loadtest.txt


# Operators of our own. What compiles them stays here.
FROM python AS kernels
# The release of Debian is the base image's, which pins it; nothing of this reaches an image.
# hadolint ignore=DL3008
RUN apt-get update --quiet \
    && apt-get install --quiet --yes --no-install-recommends cmake g++ make \
    && rm -rf /var/lib/apt/lists/*
COPY kernels/CMakeLists.txt /kernels/
COPY kernels/src /kernels/src
RUN cmake -S /kernels -B /build && cmake --build /build --parallel \
    && mkdir -p /kernels/build \
    && cp /build/libcloze_kernels.so /build/libcloze_kernels.so.sha256 /kernels/build


# Compiled here, since nothing can be written where it runs. One folder an image, so that its code
# is one layer, the last.
FROM python AS code
COPY models /serve/models
COPY service /serve/service
COPY models /export/models
COPY export /export/export
COPY loadtest /loadtest/loadtest
COPY --from=kernels /kernels/build /serve/kernels/build
COPY --from=kernels /kernels/build /export/kernels/build
RUN python -m compileall -q --invalidation-mode unchecked-hash /serve /export /loadtest \
    && chmod -R a+rX /serve /export /loadtest \
    && mkdir /empty


# Readable for whoever serves it, whatever the checkout's own permissions are.
FROM python AS bundle
COPY bundles/lacuna-mini /lacuna-mini
RUN chmod -R a+rX /lacuna-mini


FROM python AS final
LABEL org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/cloze/bin:$PATH \
    HOME=/tmp
WORKDIR /app
# A volume that is mounted over it for the first time takes its owner from here.
COPY --from=code --chown=10001:10001 /empty /bundles


FROM final AS loadtest
LABEL org.opencontainers.image.title="cloze-loadtest" \
      org.opencontainers.image.description="Load tests for servers of BERT models, by locust."
ENV MPLCONFIGDIR=/tmp
COPY --from=loadtest-packages /opt/cloze /opt/cloze
COPY --from=code --chown=10001:10001 /empty /results
COPY --from=code /loadtest .
USER 10001:10001
EXPOSE 8089
ENTRYPOINT ["python", "-m", "locust", "-f", "loadtest/locustfile.py"]


FROM final AS export
LABEL org.opencontainers.image.title="cloze-export" \
      org.opencontainers.image.description="Exports a trained BERT into a bundle for cloze-serve."
ENV HF_HOME=/cache
COPY --from=export-packages /opt/cloze /opt/cloze
COPY --from=code --chown=10001:10001 /empty /cache
COPY --from=code /export .
USER 10001:10001
ENTRYPOINT ["python", "-m", "export"]


FROM final AS serve
LABEL org.opencontainers.image.title="cloze-serve" \
      org.opencontainers.image.description="Serves trained BERTs over HTTP: exact, without padding."
ENV CLOZE_HOST=0.0.0.0
COPY --from=serve-packages /opt/cloze /opt/cloze
COPY --from=bundle /lacuna-mini bundles/lacuna-mini
COPY --from=code /serve .
USER 10001:10001
EXPOSE 8080
# Asks where CLOZE_HOST and CLOZE_PORT say: --port does not reach it.
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-m", "service.healthcheck"]
ENTRYPOINT ["python", "-m", "service"]
