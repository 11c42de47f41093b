package main

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
	{"mailbox", "A mailbox that is polled. There can be several; the variables are for a single one.", func() []*setting { return newMailbox().settings },
		func(c *config, line int) []*setting {
			m := newMailbox()
			m.line, c.Mailboxes = line, append(c.Mailboxes, m)
			return m.settings
		},
		func(c *config) (all [][]*setting) {
			for _, m := range c.Mailboxes {
				all = append(all, m.settings)
			}
			return all
		}},
	{"target", "Somebody who is told of what happens, see docs/notify.md. There can be several, in the file alone.", func() []*setting { return newTarget().settings },
		func(c *config, line int) []*setting {
			t := newTarget()
			t.line, c.Targets = line, append(c.Targets, t)
			return t.settings
		},
		func(c *config) (all [][]*setting) {
			for _, t := range c.Targets {
				all = append(all, t.settings)
			}
			return all
		}},
	{"group", "Domains that belong together, such as those of a client or a brand, see docs/domains.md. There can be several, in the file alone; they win over groups of the same name that were made by the API.", func() []*setting { return newGroup().settings },
		func(c *config, line int) []*setting {
			g := newGroup()
			g.line, c.Groups = line, append(c.Groups, g)
			return g.settings
		},
		func(c *config) (all [][]*setting) {
			for _, g := range c.Groups {
				all = append(all, g.settings)
			}
			return all
		}},
	{"domain", "What holds for one domain, see docs/domains.md. There can be several, in the file alone; what is given here wins over what was set by the API.", func() []*setting { return newDomain().settings },
		func(c *config, line int) []*setting {
			d := newDomain()
			d.line, c.ByDomain = line, append(c.ByDomain, d)
			return d.settings
		},
		func(c *config) (all [][]*setting) {
			for _, d := range c.ByDomain {
				all = append(all, d.settings)
			}
			return all
		}},
	{"network", "What an address or a network that sends is called, and whose it is. There can be several, in the file alone; they win over what was said by the API.", func() []*setting { return newNetwork().settings },
		func(c *config, line int) []*setting {
			n := newNetwork()
			n.line, c.Networks = line, append(c.Networks, n)
			return n.settings
		},
		func(c *config) (all [][]*setting) {
			for _, n := range c.Networks {
				all = append(all, n.settings)
			}
			return all
		}},
	{"stream", "Another system that is told of every report and its rows, see docs/streams.md. There can be several, in the file alone.", func() []*setting { return newStream().settings },
		func(c *config, line int) []*setting {
			s := newStream()
			s.line, c.Streams = line, append(c.Streams, s)
			return s.settings
		},
		func(c *config) (all [][]*setting) {
			for _, s := range c.Streams {
				all = append(all, s.settings)
			}
			return all
		}},
}

func findList(name string) *tableList {
	for _, l := range tableLists {
		if l.name == name {
			return l
		}
	}
	return nil
}
