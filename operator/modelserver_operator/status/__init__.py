"""Reports what is: conditions, diagnosis, progress, events.

report.status_of          the whole status document; also report.status_of_invalid
events.events_of          what changed between two statuses, for people
conditions.conditions_of  Ready, Serving, Progressing, ModelResolved, Degraded
diagnosis.diagnosis_of    what is wrong with the revision that the spec asks for, and what to do
artifact.artifact_of      how far the model is
"""
