"""Where the parts of heavy work run that a stage does not do itself (vlaw_models/spread.py): in workers of an engine.

settings.py    VLAW_ENGINE
elsewhere.py   manifests out, files in: hashes are verified here and nowhere else
worker.py      the process that an engine starts
training.py    trainings that several processes share
subprocess.py, forked.py, ray.py, slurm.py, kubernetes.py    one engine each
"""
