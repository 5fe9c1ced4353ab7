"""The papers' tables of visual localization, on public benchmarks or on their look-alikes."""
