package parse

import (
	"path"
	"strings"
)

// labels tells which format a media type promises. What is not listed, such as
// application/octet-stream, promises nothing.
var labels = map[string]string{
	"application/gzip": "gzip", "application/x-gzip": "gzip", "application/gzip-compressed": "gzip",
	"application/tlsrpt+gzip": "gzip", "application/dmarc+gzip": "gzip",
	"application/zip": "zip", "application/x-zip-compressed": "zip", "application/x-zip": "zip", "application/zip-compressed": "zip",
	"application/zlib":  "zlib",
	"application/x-tar": "tar", "application/tar": "tar",
	"text/xml": "xml", "application/xml": "xml", "application/dmarc+xml": "xml",
	"application/json": "json", "text/json": "json", "application/tlsrpt+json": "json",
	"text/plain": "text", "text/html": "html", "application/pdf": "pdf",
}

// labelOf returns the format that a media type promises, or "".
func labelOf(typ string) string {
	if strings.HasPrefix(typ, "image/") || strings.HasPrefix(typ, "audio/") || strings.HasPrefix(typ, "video/") {
		return "media"
	}
	return labels[typ]
}

// labelOfName returns the format that the name of a file promises, or "".
func labelOfName(name string) string {
	switch strings.ToLower(path.Ext(name)) {
	case ".gz", ".gzip", ".tgz":
		return "gzip"
	case ".zip":
		return "zip"
	case ".tar":
		return "tar"
	case ".xml":
		return "xml"
	case ".json":
		return "json"
	case ".html", ".htm":
		return "html"
	case ".pdf":
		return "pdf"
	}
	return ""
}

// promisesReport tells whether a label is one that reports come under.
func promisesReport(label string) bool {
	switch label {
	case "gzip", "zip", "zlib", "tar", "xml", "json":
		return true
	}
	return false
}

// contradicts tells whether a report or container is called something else
// than it is, by its media type or its name.
func contradicts(k kind, typ, name string) bool {
	var is string
	switch k {
	case kindGzip:
		is = "gzip"
	case kindZip:
		is = "zip"
	case kindZlib:
		is = "zlib"
	case kindTar:
		is = "tar"
	case kindXML:
		is = "xml"
	case kindJSON, kindParsedmarc, kindReportList:
		is = "json"
	default:
		return false
	}
	for _, label := range []string{labelOf(typ), labelOfName(name)} {
		if label == "" || label == is || label == "text" && (k == kindXML || k == kindJSON) {
			continue
		}
		return true
	}
	return false
}
