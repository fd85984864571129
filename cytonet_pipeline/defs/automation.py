"""When assets run by themselves.

Conditions are a convenience downstream: they lose updates that land in the tick after a request. What must not be lost
(new brains, training runs that would differ) compares the store with the desired state on every tick: see the sensor
`new_brains` and the schedule `retrain`. GPU training has no condition at all: a schedule or a person decides.

`docs/dagster.md` has the reasons; `test_automation.py` evaluates these conditions on the real definitions.
"""

import dagster as dg

from cytonet_pipeline.defs.dagster_internals import updated_by_another_run

# A materialisation that finds its result current reports the data version of before: nothing follows from it.
_changed = (
    updated_by_another_run() & dg.AutomationCondition.data_version_changed()
) | dg.AutomationCondition.will_be_requested()

# Not `eager()`: it forgets updates that land while its target runs, and ignores failed blocking checks on later ticks.
_updated = dg.AutomationCondition.any_deps_match(_changed).since(
    dg.AutomationCondition.newly_requested() | dg.AutomationCondition.initial_evaluation()
)
_quiet = ~dg.AutomationCondition.any_deps_in_progress() & ~dg.AutomationCondition.in_progress()

# A brain that has never been indexed holds nothing back: the training set decided which brains take part.
_complete = ~dg.AutomationCondition.any_deps_missing().ignore(dg.AssetSelection.groups("histology"))

after_upstream = (_updated & _complete & _quiet & dg.AutomationCondition.all_deps_blocking_checks_passed()).with_label(
    "after upstream"
)

# Without one of ours Dagster makes one, `default_automation_condition_sensor`, off and without a description.
evaluate_after_training = dg.AutomationConditionSensorDefinition(
    "evaluate_after_training",
    target=dg.AssetSelection.groups("evaluation"),
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Evaluate an encoder once another version of it is in use, and write the table of results once scores "
    "have changed. It looks at what the assets depend on; what is materialised without a change starts nothing.",
)

# For the table of results: it is written while some encoders are still missing.
after_any_upstream = (_updated & _quiet).with_label("after any upstream")
