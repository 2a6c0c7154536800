"""Reports as one self-contained HTML file: tables, inline SVG charts, thumbnails."""
