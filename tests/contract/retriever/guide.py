"""A small handbook: text whose answers are known, so that a test can say what must be found."""

GUIDE = """# Harbour handbook

Everything that a keeper of the harbour has to know.

## Mooring

Boats under twelve metres moor at the eastern quay. A mooring costs 14 crowns a night, water included.

Larger boats anchor in the roads and call on channel 12.

## Storms

When the barometer falls below 980 hectopascals the flood gate is closed. The keeper sounds the siren three times.

| wind | flag |
| --- | --- |
| 8 Beaufort | red |
| 10 Beaufort | black |

## Kitchen

- Bread is baked on Mondays.
- Smoked herring is served with mustard and potatoes.

```
oven: 220 degrees
minutes: 35
```
"""
