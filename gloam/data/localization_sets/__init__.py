"""Public localization benchmarks with day and night: Aachen Day-Night v1.1 and RobotCar Seasons."""
