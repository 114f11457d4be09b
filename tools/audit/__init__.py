"""Whether dvc.yaml tells the truth: ``python -m tools.audit``. Where everything is.

==================  ==============================================================================
__main__            the command: its options, what is printed, the exit status
rules               what dvc.yaml is held to, one function a rule; finding: what one says
needs               what a stage depends on; sources: its imports, from the code
observed            the parameters that it reads, by reading them, in a process of its own
libraries           the names under which packages are installed, their versions and pins
configuration       the keys of the configuration files, and params.yaml with every recipe
repair              ``--fix``: changes to the text of dvc.yaml
lock                ``--lock``: what is stale; history: changes of comments alone
hermetic            ``--hermetic``: every stage with its deps alone; room: what runs it there
mend                ``--mend``: outputs that are not what dvc.lock recorded, removed
leaks               ``--data``: what is wrong with the data set
==================  ==============================================================================
"""
