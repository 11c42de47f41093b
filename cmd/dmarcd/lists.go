package main

// A listed is an entry of a list of tables in the file, such as [[group]].
type listed struct {
	settings []*setting
	line     int // where it begins in the file; 0 when unknown
}

func (e *listed) entry() *listed { return e }

func (e *listed) setting(key string) *setting { return findSetting(e.settings, key) }

// at returns a setting of the entry to blame: if it was not given, it stands where
// the entry begins.
func (e *listed) at(key string) *setting {
	s := *e.setting(key)
	if s.origin.level == fromDefault {
		s.origin = origin{level: fromFile, line: e.line}
	}
	return &s
}

// given tells whether a setting was given.
func (e *listed) given(key string) bool { return e.setting(key).origin.level != fromDefault }

// in names the settings for people.
func (e *listed) in(list string) {
	for _, s := range e.settings {
		s.full = list + "." + s.key
	}
}

// A tableList is tables in two brackets, of which there can be several.
type tableList struct {
	name     string
	doc      string
	settings func() []*setting                    // of an entry that says nothing
	add      func(c *config, line int) []*setting // to the configuration, and returns the settings of the entry
	entries  func(c *config) (all [][]*setting)   // of the configuration
}

// tableLists are those of the configuration file, in the order of the documentation.
var tableLists = []*tableList{
	tablesOf("mailbox", "A mailbox that is polled. There can be several; the variables are for a single one.",
		newMailbox, func(c *config) *[]*mailbox { return &c.Mailboxes }),
	tablesOf("target", "Somebody who is told of what happens, see docs/notify.md. There can be several, in the file alone.",
		newTarget, func(c *config) *[]*target { return &c.Targets }),
	tablesOf("group", "Domains that belong together, such as those of a client or a brand, see docs/domains.md. There can be several, in the file alone; they win over groups of the same name that were made by the API.",
		newGroup, func(c *config) *[]*groupConfig { return &c.Groups }),
	tablesOf("domain", "What holds for one domain, see docs/domains.md. There can be several, in the file alone; what is given here wins over what was set by the API.",
		newDomain, func(c *config) *[]*domainConfig { return &c.ByDomain }),
	tablesOf("network", "What an address or a network that sends is called, and whose it is. There can be several, in the file alone; they win over what was said by the API.",
		newNetwork, func(c *config) *[]*networkConfig { return &c.Networks }),
	tablesOf("stream", "Another system that is told of every report and its rows, see docs/streams.md. There can be several, in the file alone.",
		newStream, func(c *config) *[]*streamTo { return &c.Streams }),
}

// tablesOf is a list of tables that the configuration keeps in one place.
func tablesOf[E interface{ entry() *listed }](name, doc string, empty func() E, of func(*config) *[]E) *tableList {
	return &tableList{name, doc, func() []*setting { return empty().entry().settings },
		func(c *config, line int) []*setting {
			e, all := empty(), of(c)
			*all = append(*all, e)
			e.entry().line = line
			return e.entry().settings
		},
		func(c *config) (all [][]*setting) {
			for _, e := range *of(c) {
				all = append(all, e.entry().settings)
			}
			return all
		}}
}

func findList(name string) *tableList {
	for _, l := range tableLists {
		if l.name == name {
			return l
		}
	}
	return nil
}
