"""Table 2 and Figure 7 of weakly-paired multi-domain translation (BMVC 2020), on RobotCar or on the town."""
