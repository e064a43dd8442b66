"""How long the fuzz tests look: seconds by default, much longer by `pytest tests/fuzz --hypothesis-profile=long`."""

from hypothesis import HealthCheck, settings

SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)

settings.register_profile("short", max_examples=150, deadline=None, suppress_health_check=SLOW)
settings.register_profile("long", max_examples=20_000, deadline=None, suppress_health_check=SLOW)

if settings.get_current_profile_name() != "long":  # asked for by the option, which is read before this
    settings.load_profile("short")
