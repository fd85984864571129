"""When assets run by themselves.

Conditions are a convenience downstream: they lose updates that land in the tick after a request. What must not be lost
(new brains, trainings that would differ) compares the store with the wanted state on every tick: see the sensor
`new_brains` and the schedule `retrain`. GPU training has no condition at all: a schedule or a person decides.
"""

import dagster as dg

# Not `eager()`: it forgets updates that land while its target runs, and ignores failed blocking checks on later ticks.
after_upstream = (
    dg.AutomationCondition.any_deps_updated().since(
        dg.AutomationCondition.newly_requested() | dg.AutomationCondition.initial_evaluation()
    )
    & ~dg.AutomationCondition.any_deps_missing()
    & ~dg.AutomationCondition.any_deps_in_progress()
    & ~dg.AutomationCondition.in_progress()
    & dg.AutomationCondition.all_deps_blocking_checks_passed()
).with_label("after upstream")

# The table of results is wanted while some encoders are still missing.
after_any_upstream = (
    dg.AutomationCondition.any_deps_updated().since(
        dg.AutomationCondition.newly_requested() | dg.AutomationCondition.initial_evaluation()
    )
    & ~dg.AutomationCondition.any_deps_in_progress()
    & ~dg.AutomationCondition.in_progress()
).with_label("after any upstream")
