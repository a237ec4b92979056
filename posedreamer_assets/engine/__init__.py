"""Who paints: this process, worker processes with a GPU each, or actors on a Ray cluster, whose models stay loaded.

protocol.py   what an engine is, and a job
settings.py   `POSEDREAMER_ENGINE` and the other settings of an operator
current.py    the engine of this process
generator.py  an engine as a `Generator`
painter.py    a loaded generator and what happens when memory runs out
inline.py     painting in this process
crew.py       workers that share jobs
answers.py    what a worker says
processes.py  worker processes of this computer
worker.py     such a process
on_ray.py     actors of a Ray cluster
"""
