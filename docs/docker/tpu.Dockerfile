# For a TPU VM.
#   docker build -f docs/docker/tpu.Dockerfile -t dcmu_jax:tpu .
#   docker run --rm --privileged --net=host -v "$PWD/runs:/srv/runs" dcmu_jax:tpu dcmu run --out runs/first
FROM python:3.13-slim
WORKDIR /srv
COPY . /opt/dcmu_jax
RUN pip install --no-cache-dir -c /opt/dcmu_jax/constraints.txt "/opt/dcmu_jax[tpu]"
# Stops where JAX does not see the TPU, and would compute on the CPU.
ENTRYPOINT ["/opt/dcmu_jax/docs/docker/entry.sh"]
CMD ["dcmu", "run", "--out", "runs/first"]
