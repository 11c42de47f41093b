package records

var _ = addCases(
	zoneCase{name: "a plain domain", domain: "plain.test", zone: "@ MX 10 mx1\nmx1 A 192.0.2.1"},
)
