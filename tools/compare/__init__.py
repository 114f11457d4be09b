"""Compares two states of the project: ``python -m tools.compare [REV]``. Where everything is.

==================  ==============================================================================
__main__            the command: options, the files written, the exit status
revisions           Git: the revision to compare with, its files, the state of the work tree
dvc_state           DVC: dvc.lock, stages that are out of date, outputs of any revision
trainings           the run cache: every training of a side that differs in its seed alone
sides               all that is known of one side, or why it is not known
comparison          what two sides say together: the verdict, warnings, what changed
declared            metrics and plots of a user's own that dvc.yaml declares
accuracy            the tests on one training a side, and by class
scores              what is tested of each image: correct, loss, calibration
evidence            the test that holds both chances, the training's and the test images'
statistics          exact tests, intervals, Student's t, Holm's correction
gate                what fails a pull request, and gate.yaml
markdown_report     the report as a whole; sections: its parts; markdown: what CML carries
html_report         the same report as a page for a browser; its template in templates/
change_figures      the figures; record: the result as JSON
==================  ==============================================================================
"""
